"""The report room: turns a finished run folder into one page that a physician can read and a statistician can check.

Words used here:

page: the self-contained ``report.html``; nothing on it is fetched from anywhere.
drawing: one vector figure; ``standalone`` stands in a file of its own, ``inline`` takes its colors from the page.
panel: one frame of a case with the outlines of the reader and of the network.
limit: a sentence that says what the run does not allow to conclude.

``page.write_report`` writes the page of one run, ``comparison.write_comparison`` the page of several runs side by side.
``study_page.study_html`` makes the page of one predicted study, ``study_index.index_html`` the worklist of all,
``study_summary`` the same as a picture or a page of PDF.
"""
